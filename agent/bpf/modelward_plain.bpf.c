/* The same for kernels before 6.2, which have no bpf_rdonly_cast: members of kernel objects are read by calls. */
#define MW_PLAIN
#include "modelward.bpf.c"
