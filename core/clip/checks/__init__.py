"""Statistics of images, near duplicates, and the estimate of training time.

May import `config`, `prompts` and `errors`, but not torch.
"""
