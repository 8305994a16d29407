"""How fast, how large, how cheap: measured on the local stack, beside what there is already."""
