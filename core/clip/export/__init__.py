"""Export of models to open_clip and ONNX."""
