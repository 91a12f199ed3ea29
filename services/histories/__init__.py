"""What other programs kept of a house's past, brought into its archive."""
