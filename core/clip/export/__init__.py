"""Export of models to open_clip and ONNX, and import.

May import every module of `core.clip` except `pipeline`.
"""
