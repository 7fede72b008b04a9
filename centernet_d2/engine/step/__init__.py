"""One step of training: forward, backward, its checks, the update."""
