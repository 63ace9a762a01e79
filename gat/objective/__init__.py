"""The objective: relativistic loss and approximate penalties, augmentation, alignment with a teacher."""
