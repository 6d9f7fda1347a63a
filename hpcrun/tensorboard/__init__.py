"""Metrics as TensorBoard reads them, and TensorBoard itself."""
