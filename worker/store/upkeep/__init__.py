"""What is done to a repository beside its commits: verify, repair, repack, drill, adopt."""
