cpdef bytes encode_frame(int opcode, bytes payload, bint fin=*, bint rsv1=*)
