pub fn join_values() {} pub fn name_matches() {}
