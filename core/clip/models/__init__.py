"""Pre-trained models, loaded through open_clip, and features of images and prompts.

May import `data`, `checks` and the layers below them. Only this folder imports open_clip.
"""
