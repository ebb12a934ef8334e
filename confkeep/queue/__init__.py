"""From the door into a tenant's inbox, and to the receipt."""
