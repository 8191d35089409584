"""What travels: messages (the JSON half), payload (the tensor half) and the reader of foreign JSON; no pickle."""
