"""What is made of runs: it reads their directories, and knows nothing of how they were trained."""
