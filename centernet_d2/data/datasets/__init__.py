"""Registration of data sets, one file each."""
