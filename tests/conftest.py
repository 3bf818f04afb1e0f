"""Two busy cores: one thread per test process keeps tiny tensors fast."""

import torch

torch.set_num_threads(1)
