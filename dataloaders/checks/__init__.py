"""What scripts/check_dataset.py looks at: lists, files, and between them."""
