"""The tables of the published comparison, made again from stored records."""
