"""Drawing of images, annotations and predictions."""
