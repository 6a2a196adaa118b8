"""The command `clipcite sort`: images sorted into a folder per class."""
