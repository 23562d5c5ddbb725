"""The `modelkin` command and what people see. No arithmetic."""
