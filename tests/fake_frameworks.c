/* Fakes of the functions of frameworks that are probed, by the names that the real ones have: what they do is to read the file that
 * they are given, to fail, or to leave without a return. Built by tests under the names of the real libraries.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static jmp_buf away;

static int read_file(const char *path)
{
	char head[64];
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return 0;
	while (read(fd, head, sizeof(head)) > 0)
		;
	close(fd);
	return 1;
}

/* llama.cpp */

__attribute__((noinline)) void *llama_model_load_from_file(const char *path)
{
	static char models[16];
	static int count;

	if (!strcmp(path, "jump"))
		longjmp(away, 1);
	return read_file(path) ? &models[count++ & 15] : NULL;
}

/* Another load within one. */
__attribute__((noinline)) void *llama_model_load_from_splits(const char **paths, size_t count)
{
	void *model = NULL;

	for (size_t i = 0; i < count; i++)
		model = llama_model_load_from_file(paths[i]);
	return model;
}

int load_and_leave(void)
{
	if (setjmp(away))
		return 1;
	llama_model_load_from_file("jump");
	return 0;
}

/* With more on the stack than the caller of load_and_leave had. */
__attribute__((noinline)) int load_and_leave_deeper(int depth)
{
	volatile char room[256];

	room[0] = depth;
	return depth > 0 ? load_and_leave_deeper(depth - 1) + room[0] * 0 : load_and_leave();
}

void llama_model_free(void *model)
{
	if (model)
		*(char *)model = 0;
}

int llama_decode(void *context)
{
	return context != NULL;
}

int load_model(void *server, const char *path) __asm__("_ZN14server_context10load_modelER13common_params");
int load_model(void *server, const char *path)
{
	void *model = llama_model_load_from_file(path);

	/* the trial that ends a load */
	llama_decode(server);
	return model != NULL;
}

void start_loop(void *server) __asm__("_ZN14server_context10start_loopEv");
void start_loop(void *server)
{
	llama_decode(server);
}

/* torch */

void open_reader(void *reader, const char *path) __asm__(
	"_ZN6caffe29serialize19PyTorchStreamReaderC1ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE");
void open_reader(void *reader, const char *path)
{
	*(int *)reader = read_file(path);
}

void close_reader(void *reader) __asm__("_ZN6caffe29serialize19PyTorchStreamReaderD1Ev");
void close_reader(void *reader)
{
	*(int *)reader = 0;
}

void linear(void) __asm__("_ZN2at4_ops6linear4callERKNS_6TensorES4_RKSt8optionalIS2_E");
void linear(void)
{
}

/* Triton: an error is a pointer. */

void *TRITONSERVER_ServerLoadModel(void *server, const char *name)
{
	return read_file(name) ? NULL : server;
}

void *TRITONSERVER_ServerUnloadModel(void *server, const char *name)
{
	return name ? NULL : server;
}
