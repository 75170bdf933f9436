"""A student leaves kdbench: files that other runtimes read, checked before they stand, and what the network costs there.

==================  ==================================================================================================
``student.py``      the student of a finished run, and the same with resize and normalisation as one module
``program.py``      a file of ``torch.export``
``onnx_file.py``    an ONNX file, run by onnxruntime
``int8.py``         the same in whole numbers of 8 bits, by onnxruntime
``timm_folder.py``  a folder that ``timm.create_model`` reads
``parity.py``       whether a file says of the test images what the student says of them
``latency.py``      milliseconds of a batch
``export.py``       a run to a file: write, check, measure, and only then put it in its place
``card.py``         a model card in Hugging Face's format
==================  ==================================================================================================
"""
