"""LEARNAE's nodes: a swarm with no coordinator, by published notes and content that is found by its address."""
