"""COINSTAC's own ways: WebSocket service, a container's node, the claim on an output folder, arrivals, compspec."""
