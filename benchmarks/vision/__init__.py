"""What the image pipeline starts from: model and data, fetched from where they are published; and what base size takes."""
