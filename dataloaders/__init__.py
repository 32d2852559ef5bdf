"""From files to batches: the table of datasets, reading and checking, augmentation, sampling. No networks here."""
