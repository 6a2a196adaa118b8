"""Pre-trained models, loaded through open_clip, and features of images and prompts."""
