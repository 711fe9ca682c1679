"""A trained generator on the CPU by OpenVINO, without PyTorch and diffusers."""
