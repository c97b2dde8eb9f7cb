"""What the tools that draw pictures share."""
