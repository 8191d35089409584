"""What is drawn from a database: sub-volumes, augmented, with the next batch read ahead."""
