"""Safe reading, atomic writing and converting of checkpoints; see the modules."""
