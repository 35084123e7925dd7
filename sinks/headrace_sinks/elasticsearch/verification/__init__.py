"""What documents there should be and what there are."""
