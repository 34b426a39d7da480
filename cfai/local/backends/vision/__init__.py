"""Vision: ImageNet labels, COCO boxes, printed text, a sentence about an image, and its vector.

Everything runs in NumPy or onnxruntime, on weights that are checked by their hashes.
"""
