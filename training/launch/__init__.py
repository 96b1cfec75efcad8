"""What starts runs on several GPUs and machines: accelerate configs, a Slurm script, Ray."""
