"""Stages as products: a network of any stage of a run, in one file, ready to answer, in Python or as ONNX."""

from incnet.deploy.model import Description, Model, ModelError, load_model, save_model

__all__ = ["Description", "Model", "ModelError", "load_model", "save_model"]
