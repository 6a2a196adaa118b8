"""Export of models to open_clip and ONNX.

May import every module of `core.clip` except `pipeline`.
"""
