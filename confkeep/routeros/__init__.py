"""What a capture looks like: exports of RouterOS, its scripts, and what is wrong with them."""
