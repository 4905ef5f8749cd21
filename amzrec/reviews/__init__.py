"""Any source of reviews, cleaned, split and encoded into a dataset folder."""
