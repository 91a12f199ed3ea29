"""What Home Assistant is told of the house: devices with their components, and which of them it knows."""
