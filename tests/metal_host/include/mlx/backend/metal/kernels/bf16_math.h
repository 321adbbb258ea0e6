// In place of MLX's header, which adds mathematics of bfloat out of Metal's own builtins: cast to float instead.
#pragma once
