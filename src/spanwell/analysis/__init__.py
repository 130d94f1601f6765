"""What can be worked out from ended spans: pure, in linear time, without recursion."""
