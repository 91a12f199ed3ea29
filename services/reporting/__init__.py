"""A report of a house for whoever is to find a fault in it, without what is nobody else's business."""
