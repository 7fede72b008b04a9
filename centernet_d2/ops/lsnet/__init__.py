"""Tensor functions of LSNet (Duan et al. 2021) and CenterNet++ (Duan et al. 2022): no configuration, no state."""
