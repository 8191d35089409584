"""What a site and the centre know and do in a run, whatever carries their messages."""
