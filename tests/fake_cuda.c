/* A fake of the CUDA driver's and runtime's entry points: they do nothing. Built by tests as libcuda.so.1 and libcudart.so.12. */

int cuInit(unsigned int flags)
{
	return flags != 0;
}

int cuModuleLoadData(void **module, const void *image)
{
	*module = (void *)image;
	return 0;
}

int cuModuleLoadDataEx(void **module, const void *image)
{
	*module = (void *)image;
	return 0;
}

int cuLibraryLoadData(void **library, const void *code)
{
	*library = (void *)code;
	return 0;
}

int cuLaunchKernel(void *function)
{
	return function != 0;
}

int cudaLaunchKernel(const void *function)
{
	return function != 0;
}

/* Not probed. */
int cuDriverGetVersion(unsigned int flags)
{
	return flags != 0;
}
