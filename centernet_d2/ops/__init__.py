"""Pure tensor functions: no configuration, no state."""
