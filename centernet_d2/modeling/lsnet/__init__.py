"""Parts of detectors over a feature pyramid: level geometry, towers, and heads that predict at every cell."""
