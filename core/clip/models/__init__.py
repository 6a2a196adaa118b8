"""Pre-trained models, loaded through open_clip, and features of images and prompts.

May import `data`, `checks` and the layers below them; no other folder imports open_clip.
"""
