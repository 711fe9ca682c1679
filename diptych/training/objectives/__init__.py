"""What training optimises beside the contrastive loss itself."""
