"""From files and records to the network's input; see the modules."""
