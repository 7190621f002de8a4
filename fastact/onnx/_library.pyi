# Nothing for Python: ONNX Runtime loads the file and looks for RegisterCustomOps.
