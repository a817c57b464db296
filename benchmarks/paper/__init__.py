"""The published comparison next to our results, from stored records."""
