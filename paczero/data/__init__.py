"""From a file, a hub name or a dataset to encoded records and their fixed micro-batches."""

from paczero.data.dataset import Dataset
from paczero.data.encoding import EncodedDataset, prepare, read_dataset

__all__ = ["Dataset", "EncodedDataset", "prepare", "read_dataset"]
