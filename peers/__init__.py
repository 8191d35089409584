"""The same trainer without a centre: protocols say who talks to whom, engines carry what they say."""
